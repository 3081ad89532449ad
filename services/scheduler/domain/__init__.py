"""Pure decisions of the scheduler: time, ids and chance come in as arguments, messages go out."""
