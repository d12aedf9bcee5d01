"""The DenseNet itself: configuration, layers, modules and initial weights."""
