"""Training images: sources, labels, teachers, augmentation, batches."""
