"""The parts of the load bench; `../run` puts them together."""
