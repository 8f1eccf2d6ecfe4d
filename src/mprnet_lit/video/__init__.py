"""Video files: decoding, color conversion, restoration, encoding."""
