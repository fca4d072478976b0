"""Six spoken words of Speech Commands, one second each: a recurrent net, and one of separable convolutions."""
