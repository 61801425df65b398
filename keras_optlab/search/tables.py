"""Optuna's tables, written in one transaction per event, and the table of our own that says who holds which trial.

Optuna commits each attribute for itself, and would let anybody end a trial. Here each write to a running trial begins with its lease: it changes one row, so
that another worker has to wait or to see it, and writes nothing if the trial has passed on.
"""

import contextlib
import datetime
import json
import math
from collections.abc import Iterable, Iterator

import optuna

NOW = {  # seconds since 1970 by the clock of the database: the machines' own may differ
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "extract(epoch from clock_timestamp())",
    "mysql": "unix_timestamp(now(6))",
    "mariadb": "unix_timestamp(now(6))",
}
USED = ("studies", "trials", "trial_params", "trial_values", "trial_intermediate_values", "trial_user_attributes", "study_user_attributes")


class LeaseLost(Exception):
    """A trial was taken over by another worker, because this one was silent for too long."""


class Tables:
    """Transactions over the tables of one study.

    Args:
        engine: SQLAlchemy's engine, over a database that Optuna has prepared.
        study: Optuna's id of the study.
        lease: seconds for which a trial is held.
    """

    def __init__(self, engine, study: int, lease: float):
        import sqlalchemy as sa

        self.sa, self.engine, self.study, self.lease = sa, engine, study, lease
        metadata = sa.MetaData()
        metadata.reflect(engine, only=USED)
        self.t = metadata.tables
        self.leases = sa.Table(
            "keras_optlab_leases",
            metadata,
            sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("token", sa.Integer, nullable=False),
            sa.Column("expires", sa.Double, nullable=False),
            sa.Column("owner", sa.String(255), nullable=False),
        )
        self.leases.create(engine, checkfirst=True)
        self.now = sa.cast(sa.literal_column(NOW[engine.dialect.name]), sa.Double)

    @contextlib.contextmanager
    def writing(self, alone: bool = False) -> Iterator:
        """A transaction; `alone`: none other of this kind on this study runs beside it."""
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            elif alone:
                studies = self.t["studies"]
                connection.execute(self.sa.select(studies.c.study_id).where(studies.c.study_id == self.study).with_for_update())
            yield connection

    def clock(self, connection) -> float:
        return connection.execute(self.sa.select(self.now)).scalar()

    def rename(self, name: str) -> bool:
        """Gives the study its name. Returns `False` if another one has it."""
        studies = self.t["studies"]
        try:
            with self.writing() as connection:
                connection.execute(self.sa.update(studies).where(studies.c.study_id == self.study).values(study_name=name))
        except self.sa.exc.IntegrityError:
            return False
        return True

    def states(self) -> list[tuple[int, int, str]]:
        """(Optuna's id, number, state) of each trial, in the order of their start."""
        trials = self.t["trials"]
        with self.engine.connect() as connection:
            query = self.sa.select(trials.c.trial_id, trials.c.number, trials.c.state).where(trials.c.study_id == self.study).order_by(trials.c.number)
            return [tuple(row) for row in connection.execute(query)]

    def begin(self, number: int, params: dict, distributions: dict, facts: dict, owner: str) -> int | None:
        """Starts trial `number` and holds it with token 1. Returns Optuna's id, or `None` if there is such a trial already."""
        trials = self.t["trials"]
        with self.writing(alone=True) as connection:
            count = self.sa.select(self.sa.func.count()).where(trials.c.study_id == self.study)
            if connection.execute(count).scalar() != number:
                return None
            row = {"number": number, "study_id": self.study, "state": "RUNNING", "datetime_start": _utc()}
            key = connection.execute(self.sa.insert(trials).values(row)).inserted_primary_key[0]
            self._params(connection, key, params, distributions)
            self._facts(connection, key, facts)
            connection.execute(self.sa.insert(self.leases).values(trial_id=key, token=1, expires=self.now + self.lease, owner=owner))
            return key

    def free(self) -> list[int]:
        """Ids of the running trials that nobody holds any more."""
        trials, leases = self.t["trials"], self.leases
        with self.engine.connect() as connection:
            query = self.sa.select(trials.c.trial_id).outerjoin(leases, leases.c.trial_id == trials.c.trial_id)
            query = query.where(trials.c.study_id == self.study, trials.c.state.in_(("RUNNING", "WAITING")))
            query = query.where(self.sa.or_(leases.c.expires.is_(None), leases.c.expires < self.now)).order_by(trials.c.number)
            return [row[0] for row in connection.execute(query)]

    def held(self) -> bool:
        """Whether any worker holds a trial."""
        return len(self.free()) < sum(state in ("RUNNING", "WAITING") for *_, state in self.states())

    def take_up(self, key: int, facts: dict, owner: str) -> int | None:
        """Holds a free trial. Returns the new token, or `None` if another worker was faster."""
        leases = self.leases
        with self.writing(alone=True) as connection:
            token = connection.execute(self.sa.select(leases.c.token).where(leases.c.trial_id == key)).scalar()
            values = {"token": (token or 1) + 1, "expires": self.now + self.lease, "owner": owner}
            if token is None:  # of an older version
                connection.execute(self.sa.insert(leases).values(trial_id=key, **values))
            else:
                mine = self.sa.update(leases).where(leases.c.trial_id == key, leases.c.token == token, leases.c.expires < self.now)
                if connection.execute(mine.values(values)).rowcount != 1:
                    return None
            self._facts(connection, key, facts)
            return values["token"]

    def renew(self, connection, key: int, token: int, seconds: float | None = None) -> None:
        """Holds a trial for another lease.

        Raises:
            LeaseLost: if it has passed on, or is finished.
        """
        mine = self.sa.update(self.leases).where(self.leases.c.trial_id == key, self.leases.c.token == token)
        if connection.execute(mine.values(expires=self.now + (self.lease if seconds is None else seconds))).rowcount != 1:
            raise LeaseLost

    def free_all(self, forget: bool = False) -> None:
        """Gives back every trial of the study, of which nobody else can hold one; `forget`: it is to be deleted."""
        trials = self.t["trials"]
        mine = self.leases.c.trial_id.in_(self.sa.select(trials.c.trial_id).where(trials.c.study_id == self.study))
        with self.writing() as connection:
            connection.execute(self.sa.delete(self.leases).where(mine) if forget else self.sa.update(self.leases).where(mine).values(expires=0.0))

    def note(self, key: int, token: int, facts: dict, values: dict, seconds: float | None = None) -> None:
        """Writes facts and the objective after epochs, {step: value}, of a held trial, and renews its lease."""
        with self.writing() as connection:
            self.renew(connection, key, token, seconds)
            self._facts(connection, key, facts)
            self._values(connection, key, values)

    @contextlib.contextmanager
    def finishing(self, key: int, token: int, params: dict, distributions: dict, facts: dict, values: dict, steps: int, state: str, scores: list) -> Iterator:
        """Writes the result of a held trial and gives it up, in one transaction with what the body writes over its connection."""
        with self.writing(alone=True) as connection:
            self.renew(connection, key, token)
            self._params(connection, key, params, distributions)
            self._facts(connection, key, facts)
            self._values(connection, key, values)
            table, trials = self.t["trial_intermediate_values"], self.t["trials"]
            connection.execute(self.sa.delete(table).where(table.c.trial_id == key, table.c.step >= steps))
            rows = [{"trial_id": key, "objective": i, "value": score, "value_type": "FINITE"} for i, score in enumerate(scores)]
            if rows:
                connection.execute(self.sa.insert(self.t["trial_values"]), rows)
            yield connection
            ended = {"state": state, "datetime_complete": _utc()}
            done = self.sa.update(trials).where(trials.c.trial_id == key, trials.c.state.in_(("RUNNING", "WAITING"))).values(ended)
            if connection.execute(done).rowcount != 1:
                raise LeaseLost
            connection.execute(self.sa.delete(self.leases).where(self.leases.c.trial_id == key))

    def study_facts(self, connection) -> dict:
        table = self.t["study_user_attributes"]
        return {
            key: json.loads(text) for key, text in connection.execute(self.sa.select(table.c.key, table.c.value_json).where(table.c.study_id == self.study))
        }

    def note_study(self, connection, facts: dict) -> None:
        self._put(connection, "study_user_attributes", "study_id", self.study, "key", [{"key": k, "value_json": json.dumps(v)} for k, v in facts.items()])

    def _params(self, connection, key: int, params: dict, distributions: dict) -> None:
        rows = [
            {
                "param_name": name,
                "param_value": float(distributions[name].to_internal_repr(value)),
                "distribution_json": optuna.distributions.distribution_to_json(distributions[name]),
            }
            for name, value in params.items()
        ]
        self._put(connection, "trial_params", "trial_id", key, "param_name", rows)

    def _facts(self, connection, key: int, facts: dict) -> None:
        self._put(connection, "trial_user_attributes", "trial_id", key, "key", [{"key": k, "value_json": json.dumps(v)} for k, v in facts.items()])

    def _values(self, connection, key: int, values: dict) -> None:
        rows = [{"step": step, "intermediate_value": v if math.isfinite(v) else None, "intermediate_value_type": _type(v)} for step, v in values.items()]
        self._put(connection, "trial_intermediate_values", "trial_id", key, "step", rows)

    def _put(self, connection, table: str, owner: str, key: int, name: str, rows: Iterable[dict]) -> None:
        """Inserts rows in place of those of the same name."""
        rows, table = list(rows), self.t[table]
        if rows:
            connection.execute(self.sa.delete(table).where(table.c[owner] == key, table.c[name].in_([row[name] for row in rows])))
            connection.execute(self.sa.insert(table), [{owner: key} | row for row in rows])


def _utc() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)  # as Optuna keeps it


def _type(value: float) -> str:
    return "FINITE" if math.isfinite(value) else "NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"
