"""Ways to turn a source tree into an image, one per file, behind ``agent.ports.images.ImageBuilder``."""
