"""A classifier with scikit-learn's protocol: fit on texts in memory, predict with the bundle of the student."""

from distill.estimator.classifier import DistilledTextClassifier
from distill.estimator.saved import BundleInMemory as _BundleInMemory  # where pickles of older versions look for it

__all__ = ["DistilledTextClassifier", "_BundleInMemory"]
