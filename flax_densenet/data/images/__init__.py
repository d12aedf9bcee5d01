"""Images in files: decoding, cropping and streaming by worker processes."""
