"""Code that several jobs share: baselines, splits, sequence-to-sequence models, report sections."""
