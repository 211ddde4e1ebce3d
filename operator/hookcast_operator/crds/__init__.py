"""The custom resource definitions and their pages, generated from the models. `python -m hookcast_operator.crds`."""
