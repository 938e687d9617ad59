"""What `orchard up` is made of."""
