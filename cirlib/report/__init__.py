"""Numbers to tables, figures and verdicts: a file for most files of cirlib/measure."""
