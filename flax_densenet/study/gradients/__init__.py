"""Study of gradient norms, layer by layer."""
