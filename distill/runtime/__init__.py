"""The student without PyTorch: bundle, segmenter, kernels. Needs numpy and, once, a C compiler."""
