"""A photograph of handwriting -> a 28x28 image as MNIST's makers made them. Knows nothing of networks."""
