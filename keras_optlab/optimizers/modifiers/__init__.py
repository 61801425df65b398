"""Formulas around a formula."""
