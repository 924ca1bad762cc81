"""Models that students are compared with: a linear SVM, fastText, bert-base-chinese."""
