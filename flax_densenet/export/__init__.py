"""Export of a trained network to files that other programs run.

`interface.py` describes input and output of such a network. `stablehlo.py` and `onnx_network.py`
write one format each. `verification.py` runs the result beside ours before it is saved.
"""
