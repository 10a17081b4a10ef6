# Writes reference.json: what R (base packages) and rpact say about small data sets. Run: Rscript reference.R > reference.json
options(digits = 15)
out <- list()
put <- function(name, ...) out[[name]] <<- list(...)

a <- c(5.1, 4.9, 6.2, 5.8, 6.0, 5.5, 5.3, 6.7, 4.4, 5.9, 6.1, 5.0)
b <- c(5.9, 6.8, 6.5, 5.7, 7.2, 6.9, 7.5, 6.1, 5.8, 8.4)
put("samples", a = a, b = b)
for (side in c("two.sided", "greater", "less")) {
  w <- t.test(b, a, alternative = side)
  put(paste0("welch ", side), statistic = w$statistic, df = w$parameter, p = w$p.value, lower = w$conf.int[1], upper = w$conf.int[2])
  t <- t.test(b, a[1:10], paired = TRUE, alternative = side)
  put(paste0("paired t ", side), statistic = t$statistic, df = t$parameter, p = t$p.value, lower = t$conf.int[1], upper = t$conf.int[2])
  m <- wilcox.test(b, a, alternative = side, exact = FALSE, correct = TRUE)
  put(paste0("mann-whitney ", side), statistic = m$statistic, p = m$p.value)
  s <- wilcox.test(b - a[1:10], alternative = side, exact = TRUE)
  put(paste0("wilcoxon ", side), p = s$p.value)
}
h <- wilcox.test(b - a[1:10], exact = TRUE, conf.int = TRUE)
put("hodges-lehmann", estimate = h$estimate)

for (k in list(c(30, 1000, 45, 1000), c(9, 260, 3, 250), c(480, 512, 470, 490), c(1, 40, 8, 45))) {
  z <- suppressWarnings(prop.test(c(k[3], k[1]), c(k[4], k[2]), correct = FALSE))
  put(paste("proportions", paste(k, collapse = " ")), z2 = z$statistic, p = z$p.value)
}
strata <- array(c(10, 110, 5, 95,   40, 270, 30, 270,   3, 17, 9, 300), dim = c(2, 2, 3))
cmh <- mantelhaen.test(strata, correct = FALSE)
put("cmh", z2 = cmh$statistic, p = cmh$p.value)
for (k in list(c(20, 35), c(5, 14), c(7, 7), c(1, 9), c(0, 4))) {
  table <- matrix(c(900, k[1], k[2], 45), 2)
  c2 <- mcnemar.test(table)
  e <- binom.test(k[2], sum(k), 0.5)
  put(paste("mcnemar", paste(k, collapse = " ")), chi2 = c2$statistic, p = c2$p.value, plain = mcnemar.test(table, correct = FALSE)$p.value, exact = e$p.value)
}
p <- c(0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216, 0.222, 0.251, 0.269, 0.275, 0.34)
put("adjusted", p = p, holm = p.adjust(p, "holm"), BH = p.adjust(p, "BH"))
put("chisq", p = chisq.test(c(5210, 4790, 1005), p = c(0.45, 0.45, 0.1))$p.value)
cp <- binom.test(7, 213)$conf.int
put("clopper-pearson 7 213", lower = cp[1], upper = cp[2])
wi <- prop.test(7, 213, correct = FALSE)$conf.int
put("wilson 7 213", lower = wi[1], upper = wi[2])
deep <- t.test(a + 40, a - 0.1 * seq_along(a))
put("deep tail", p = deep$p.value)

library(rpact)
for (k in c(3, 5, 10)) for (kind in c("asOF", "asP")) for (sides in 1:2) {
  d <- getDesignGroupSequential(kMax = k, alpha = 0.05, beta = 0.2, sided = sides, typeOfDesign = kind, tolerance = 1e-10)
  y <- getDesignCharacteristics(d)
  put(paste("looks", k, kind, sides), bounds = d$criticalValues, spent = d$alphaSpent, inflation = y$inflationFactor)
}
d <- getDesignGroupSequential(informationRates = c(0.07, 0.31, 0.33, 0.8, 1), alpha = 0.05, sided = 2, typeOfDesign = "asOF", tolerance = 1e-10)
put("irregular looks", times = c(0.07, 0.31, 0.33, 0.8, 1), bounds = d$criticalValues)

value <- function(x) {
  s <- formatC(unname(x), digits = 15, format = "g", width = 1)
  s[x == Inf] <- "1e999"; s[x == -Inf] <- "-1e999"
  if (length(x) == 1) s else paste0("[", paste(s, collapse = ", "), "]")
}
entry <- function(l) paste0("{", paste(sprintf('"%s": %s', names(l), vapply(l, value, "")), collapse = ", "), "}")
cat("{\n", paste(sprintf('  "%s": %s', names(out), vapply(out, entry, "")), collapse = ",\n"), "\n}\n", sep = "")
