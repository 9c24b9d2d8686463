"""A search for tensors of an ONNX file that lie elsewhere, by its bytes, before any library acts on them."""

_PARTS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Messages of onnx.proto by which tensors are reached: the kind of each field, by its number."""
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
"""Fields of a tensor whose values are elsewhere: where, and that they are (0 where they are not)."""
_VARINT, _EIGHT_BYTES, _COUNTED, _FOUR_BYTES = 0, 1, 2, 5
"""Encodings of a field's value."""


def has_external_data(model: bytes) -> bool:
    """Tell whether any tensor has its values outside the file: in another one, or in the memory of the process.

    Raises:
        ValueError: the bytes are no message of protocol buffers.
    """
    todo = [("model", 0, len(model))]
    while todo:
        kind, at, end = todo.pop()
        while at < end:
            key, at = _varint(model, at, end)
            field, encoding = divmod(key, 8)
            value = 1
            if encoding == _VARINT:
                value, at = _varint(model, at, end)
            elif encoding == _COUNTED:
                length, at = _varint(model, at, end)
                if part := _PARTS[kind].get(field):
                    todo.append((part, at, at + length))
                at += length
            elif encoding in (_EIGHT_BYTES, _FOUR_BYTES):
                at += 8 if encoding == _EIGHT_BYTES else 4
            else:
                raise ValueError(f"a field has encoding {encoding}")
            if at > end:
                raise ValueError("it ends within a field")
            if kind == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value)):
                return True
    return False


def _varint(model: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a number in groups of seven bits, the lowest first; return it, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("it ends within a number")
        byte = model[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has over ten bytes")
