"""Training: LightningModule, losses, schedule, callbacks, checkpoints."""
