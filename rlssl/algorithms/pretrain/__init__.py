"""Pretraining: an encoder, trained on a data set by auxiliary losses alone."""
