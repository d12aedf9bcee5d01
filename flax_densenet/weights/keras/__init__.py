"""What Keras files say of their network: names of layers, and the whole model."""
