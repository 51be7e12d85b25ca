"""The layers of a Keras model in the order of the data; models whose layers are not in a row are refused."""

from __future__ import annotations

from typing import Any

from lstmkit.errors import ModelFileError, UserError, listing, one_line

_ADVICE = "save the model again with Keras"
_MASK_OPERATIONS = ("NotEqual", "Any")  # by which Keras computes the mask of an Embedding or a Masking layer
_TENSOR = "__keras_tensor__"


def layers_in_a_row(model: Any, name: str) -> list[dict[str, Any]]:
    """The entries of a ``Sequential``, or of a functional model in which each layer reads the one before.

    Args:
        model: Description of the model, parsed JSON of any form.
        name: Name of the file in messages.

    Raises:
        UserError: The model is of another class, or its layers are not in a row.
        ModelFileError: The description is damaged.

    >>> layers_in_a_row({"class_name": "Sequential", "config": [{"class_name": "Dense", "config": {}}]}, "a.h5")
    [{'class_name': 'Dense', 'config': {}}]
    """
    if not isinstance(model, dict):
        raise ModelFileError(f"{name} has no description of a model: {_ADVICE}")
    kind, config = model.get("class_name"), model.get("config")
    entries = config.get("layers") if isinstance(config, dict) else config  # a list in Keras 2.0 to 2.2.2
    if kind not in ("Sequential", "Functional", "Model"):
        raise UserError(
            f"{name} is a model of the class {one_line(kind)}: only Sequential and functional models can be read"
        )
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ModelFileError(f"{name} has no list of layers: {_ADVICE}")
    return entries if kind == "Sequential" else _Graph(entries, config, name).in_order()


class _Graph:
    """A functional model. Each node is a layer with the names of those that it reads."""

    def __init__(self, entries: list[dict[str, Any]], config: Any, name: str) -> None:
        self.name, self.config = name, config
        self.entries: dict[str, dict[str, Any]] = {}
        for entry in entries:
            label = entry.get("name")
            if not isinstance(label, str) or label in self.entries:
                raise ModelFileError(f"{name} has a layer without a name of its own: {_ADVICE}")
            self.entries[label] = entry

    def in_order(self) -> list[dict[str, Any]]:
        """The layers from the input to the output, in the order of the file if they are a row."""
        masks = [label for label, entry in self.entries.items() if entry.get("class_name") in _MASK_OPERATIONS]
        row: list[str] = []
        for label, entry in self.entries.items():
            if label in masks:
                continue
            inputs, mask = self._inputs(label)
            expected = [row[-1]] if row else []
            if inputs != expected or (not row and entry.get("class_name") != "InputLayer"):
                reads = f"reads {listing(inputs)}" if inputs else "reads nothing"
                raise UserError(
                    f"{self.name}, layer {one_line(label)!r} {reads}: only models with all layers in a row can be read"
                )
            if mask is not None:
                self._check_mask(label, mask, row)
            row.append(label)
        for end, expected in (("input_layers", row[:1]), ("output_layers", row[-1:])):
            if _names(self.config.get(end)) != expected:
                raise UserError(f"{self.name} has {end} other than {listing(expected)}: only one of each can be read")
        return [self.entries[label] for label in row]

    def _inputs(self, label: str) -> tuple[list[str], str | None]:
        """Names of the layers that one reads, and of the one that computes its mask, if it is named."""
        nodes = self.entries[label].get("inbound_nodes")
        if not isinstance(nodes, list) or len(nodes) > 1:
            raise UserError(
                f"{self.name}, layer {one_line(label)!r} is used more than once: only models with all layers in a row "
                "can be read"
            )
        if not nodes:
            return [], None
        if isinstance(nodes[0], dict):  # Keras 3
            arguments, keywords = nodes[0].get("args"), nodes[0].get("kwargs")
            inputs = _tensors(arguments)
        else:  # Keras 2: [[name, node, tensor, keywords]]
            arguments = nodes[0] if isinstance(nodes[0], list) else []
            inputs = [str(each[0]) for each in arguments if isinstance(each, list) and each]
            last = arguments[0] if arguments else None
            keywords = last[3] if isinstance(last, list) and len(last) > 3 else {}
        keywords = dict(keywords) if isinstance(keywords, dict) else {}
        mask, _ = _tensors(keywords.pop("mask", None)), keywords.pop("training", None)
        unknown = [key for key, value in keywords.items() if value is not None]
        if unknown or len(mask) > 1:
            keywords = listing(unknown or ["masks"])
            raise UserError(f"{self.name}, layer {one_line(label)!r} is called with {keywords}: that cannot be read")
        return inputs, mask[0] if mask else None

    def _check_mask(self, label: str, mask: str, row: list[str]) -> None:
        """Raise UserError unless the mask is the one that an Embedding or a Masking layer of the row gives."""
        for k, masking in enumerate(row[1:], 1):
            entry, before = self.entries[masking], row[k - 1]
            config = entry.get("config")
            if not isinstance(config, dict):
                continue
            if entry.get("class_name") == "Embedding" and config.get("mask_zero") is True:
                if self._compares(mask, before, 0):
                    return
            elif entry.get("class_name") == "Masking":
                operation = self.entries.get(mask, {})
                inputs = self._inputs(mask)[0] if operation.get("class_name") == "Any" else []
                if len(inputs) == 1 and self._compares(inputs[0], before, config.get("mask_value")):
                    return
        raise UserError(
            f"{self.name}, layer {one_line(label)!r} has a mask of its own: only those of Embedding and Masking can be "
            "read"
        )

    def _compares(self, operation: str, tensor: str, value: Any) -> bool:
        """Whether an operation is ``tensor != value``."""
        entry = self.entries.get(operation, {})
        if entry.get("class_name") != "NotEqual" or self._inputs(operation)[0] != [tensor]:
            return False
        arguments = entry["inbound_nodes"][0].get("args") if isinstance(entry["inbound_nodes"][0], dict) else []
        return len(arguments) == 2 and arguments[1] == value


def _tensors(value: Any) -> list[str]:
    """Names of the layers whose outputs are in an argument, at any depth."""
    if isinstance(value, list):
        return [name for each in value for name in _tensors(each)]
    if not isinstance(value, dict):
        return []
    if value.get("class_name") == _TENSOR:
        config = value.get("config")
        history = config.get("keras_history") if isinstance(config, dict) else None
        return [str(history[0])] if isinstance(history, list) and history else [""]
    return [name for each in value.values() for name in _tensors(each)]


def _names(ends: Any) -> list[str]:
    """Names of layers in ``input_layers``: ``["a", 0, 0]`` or ``[["a", 0, 0]]``."""
    if not isinstance(ends, list) or not ends:
        return []
    return (
        [str(ends[0])] if isinstance(ends[0], str) else [str(end[0]) for end in ends if isinstance(end, list) and end]
    )
