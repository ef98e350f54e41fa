"""The model as a graph: what every step that changes the model works on."""
