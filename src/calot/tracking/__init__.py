"""A run's epochs in TensorBoard, trackio, MLflow or Weights & Biases, each written by a process of its own."""
