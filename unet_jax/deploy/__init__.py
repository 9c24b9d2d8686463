"""Trained networks taken out of the program: ONNX and StableHLO files."""
