"""The trained network as a file for other programs, which need nothing of this package.

`interface.py` says what such a network takes; `stablehlo.py` and `onnx_network.py` make it in one
format each, and `verification.py` runs it beside ours before anything is written.
"""
