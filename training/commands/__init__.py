"""The verbs of training, as a person types them."""
