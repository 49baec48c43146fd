"""The recipe behind the shipped networks: from pictures to a network, its scores and its card.

torch is imported by `net`, `train` and `export` only; `evaluate` and `kernels` need numpy and onnxruntime.
"""
