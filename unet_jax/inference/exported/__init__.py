"""Networks in exported files, ONNX and StableHLO: what the files say of them, and how they are run."""
