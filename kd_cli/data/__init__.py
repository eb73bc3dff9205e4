"""Where images come from: data sets, prepared copies, splits, batches, augmentation."""
