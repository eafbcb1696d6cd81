//! Are nodes told from strangers, and files that are wrong from those that are right?
