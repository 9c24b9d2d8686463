"""U-Net segmentation of brain tumours in MRI slices. Research software, not a medical device."""

__version__ = "0.1.0"
