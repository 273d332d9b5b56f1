"""The staging command: generates the calibrated MeasurementSets of a MOUS on the cluster, and stages them."""
