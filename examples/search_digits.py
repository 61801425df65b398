"""A search from Python: optimizer, rate, schedule, regularization and architecture of a classifier of scanned digits.

python examples/search_digits.py [minutes]
"""

import sys

from keras_optlab import data, layers, report, results
from keras_optlab.callbacks import GradientMonitor
from keras_optlab.search import ImageClassifier, Tuner

minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 2
images = data.load("digits")
hypermodel = ImageClassifier(images.image_shape, len(images.class_names), train_size=sum(images.counts["train"]))
tuner = Tuner(hypermodel, objective="val_accuracy", max_minutes=minutes, seed=0, directory="saved_models", project_name="example_search")
tuner.search(images, callbacks=[GradientMonitor()], verbose=0)  # stopped and run again, it goes on where it was

model = layers.raw_pixel_model(tuner.get_best_models()[0], images)
record = results.of_search(tuner, images, model, seed=0)
model.save("saved_models/example.keras")
report.save(record, "saved_models/example.html", overwrite=True)
print(f"Test accuracy {record['result']['test_accuracy']:.4f} after {len(record['trials'])} trainings; report: saved_models/example.html")
