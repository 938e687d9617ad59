"""Linear regression by gradient descent, held against its closed form."""
