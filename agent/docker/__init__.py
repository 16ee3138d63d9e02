"""The Docker engine, as every Docker adapter speaks to it. The only place that knows aiodocker."""
