# Evaluates every line of standard input and writes "value<TAB>line"; see designs.py.
for (line in readLines(file("stdin"))) cat(format(eval(parse(text = line)), digits = 15), "\t", line, "\n", sep = "")
