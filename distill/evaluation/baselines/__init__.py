"""Models that students are compared with: LinearSVC, fastText, bert-base-chinese."""
