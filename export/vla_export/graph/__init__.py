"""ONNX graphs of a policy, at every precision."""
