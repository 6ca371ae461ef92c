"""Images: arrays and photographs."""
