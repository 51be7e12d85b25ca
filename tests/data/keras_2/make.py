"""Makes the models beside it with Keras 2.15: files of an older Keras, for tests/test_keras_files.py.

pip install 'tensorflow-cpu==2.15.*' and python make.py
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

IDS = [[3, 1, 4, 1, 0, 0], [0, 0, 5, 9, 2, 6], [5, 0, 0, 3, 0, 5], [0, 0, 0, 0, 0, 0], [8, 9, 7, 9, 3, 2]]
keras = tf.keras
L = keras.layers


def with_random_weights(model):
    generator = np.random.default_rng(0)
    ranges = [(0.2, 1) if "moving_variance" in weight.name else (-0.9, 0.9) for weight in model.weights]
    model.set_weights([generator.uniform(*r, w.shape) for r, w in zip(ranges, model.weights, strict=True)])
    return model


sequential = keras.Sequential(
    [
        L.Embedding(10, 4, mask_zero=True, input_length=6),
        L.Bidirectional(L.LSTM(3, return_sequences=True, dropout=0.1)),
        L.TimeDistributed(L.Dense(5, activation="relu")),
        L.BatchNormalization(),
        L.GRU(4, go_backwards=True),
        L.Dropout(0.2),
        L.Dense(2, activation="softmax"),
    ]
)
x = first = keras.Input((6,))
for layer in (
    L.Embedding(10, 3, mask_zero=True),
    L.LSTM(4, return_sequences=True),
    L.LeakyReLU(),
    L.SimpleRNN(3, return_sequences=True),
    L.LSTM(3),
    L.Dense(1),
):
    x = layer(x)
models = {"sequential.h5": sequential, "functional.keras": keras.Model(first, x)}

outputs = {}
for name, model in models.items():
    with_random_weights(model).save(Path(__file__).with_name(name))
    outputs[name] = model.predict(np.array(IDS), verbose=0).tolist()
Path(__file__).with_name("outputs.json").write_text(json.dumps({"input": IDS, **outputs}, indent=1) + "\n")
