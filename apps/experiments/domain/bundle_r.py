"""The decision of a bundle again in R: a program of its own, base R only; it shares no line with the product."""

from __future__ import annotations

R_SCRIPT = r"""# The decision of this bundle again, from its sums alone. Base R; reads plan.csv, sums.csv and looks.csv.
here <- sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE)[1])
setwd(dirname(normalizePath(here)))
plan <- read.csv("plan.csv", colClasses = "character")
said <- setNames(plan$value, plan$name)
num <- function(name) as.numeric(said[[name]])
yes <- function(name) said[[name]] == "true"
alpha <- num("alpha")
kind <- said[["kind"]]
covariate <- yes("has_covariate")
sums <- read.csv("sums.csv")
sums$n <- as.numeric(sums$n) # R's integers end at 2^31, products of three sizes do not
sums <- sums[sums$metric == said[["primary"]], ]
c <- sums[sums$arm == "control", ]
t <- sums[sums$arm == "treatment", ]
c <- c[order(c$period), ]
t <- t[order(t$period), ]

shares <- function() {
  # Mantel and Haenszel (1959); the risk difference with the variance of Sato (1989). z^2 is the statistic of
  # mantelhaen.test(array(rbind(kt, nt - kt, kc, nc - kc), c(2, 2, length(n))), correct = FALSE).
  ok <- c$n > 0 & t$n > 0
  kc <- c$sum_1[ok]; nc <- c$n[ok]; kt <- t$sum_1[ok]; nt <- t$n[ok]
  n <- nc + nt; k <- kc + kt
  z <- sum(kt - nt * k / n) / sqrt(sum(nc * nt * k * (n - k) / (n^2 * (n - 1))))
  w <- nc * nt / n
  d <- sum(w * (kt / nt - kc / nc)) / sum(w)
  p <- (nt^2 * kc - nc^2 * kt + nc * nt * (nc - nt) / 2) / n^2
  q <- (kc * (nt - kt) + kt * (nc - kc)) / (2 * n)
  se <- sqrt(max(d * sum(p) + sum(q), 0) / sum(w)^2)
  # 0 % in one arm and 100 % in the other, in every period: the error under "no difference"
  if ((all(kc == 0) && all(kt == nt)) || (all(kc == nc) && all(kt == 0))) se <- abs(d / z)
  a <- kc / nc; b <- kt / nt
  list(d = d, se = se, z = z, df = Inf, alike = sqrt(sum(w^2 * (a * (1 - a) / nt + b * (1 - b) / nc))) / sum(w))
}

arm <- function(x) {
  list(n = x$n, y = x$sum_1 / x$n, v = x$s11 / (x$n - 1), x = x$sum_2 / x$n, c = x$s12 / (x$n - 1),
       w = x$s22 / (x$n - 1))
}

means <- function() {
  # Welch's t over periods, weights n_c n_t / (n_c + n_t); ratios by the delta method, covariates by CUPED
  a <- arm(c); b <- arm(t)
  dfa <- a$n - 1; dfb <- b$n - 1
  cov <- rep(0, length(a$n))
  if (kind == "ratio") {
    ratio <- function(m) {
      r <- m$y / m$x
      m$v <- (m$v - 2 * r * m$c + r^2 * m$w) / m$x^2
      m$y <- r
      m
    }
    a <- ratio(a); b <- ratio(b)
  }
  va <- a$v / a$n; vb <- b$v / b$n
  own <- list(a = a$v, b = b$v)
  if (covariate) {
    within <- dfa * a$w + dfb * b$w
    theta <- ifelse(within > 0, (dfa * a$c + dfb * b$c) / within, 0)
    s <- b$n / (a$n + b$n)
    own <- list(a = a$v - 2 * theta * a$c + theta^2 * a$w, b = b$v - 2 * theta * b$c + theta^2 * b$w)
    # each arm's mean is linear in the four means
    p <- -theta * s; q <- theta * s; e <- theta * (1 - s); f <- -theta * (1 - s)
    va <- (a$v + 2 * p * a$c + p^2 * a$w) / a$n + q^2 * b$w / b$n
    vb <- e^2 * a$w / a$n + (b$v + 2 * f * b$c + f^2 * b$w) / b$n
    cov <- (e * a$c + p * e * a$w) / a$n + (q * b$c + q * f * b$w) / b$n
    shift <- b$x - a$x
    a$y <- a$y + q * shift
    b$y <- b$y + f * shift
    dfa <- dfa - 1; dfb <- dfb - 1
  }
  ok <- dfa > 0 & dfb > 0
  w <- ifelse(ok, as.numeric(a$n) * b$n / (a$n + b$n), 0)
  w <- (w / sum(w))[ok]
  d <- sum(w * (b$y - a$y)[ok])
  wa <- w^2 * va[ok]; wb <- w^2 * vb[ok]
  A <- sum(wa); B <- sum(wb)
  se <- sqrt(A + B - 2 * sum(w^2 * cov[ok]))
  # an arm in which nothing varies adds no uncertainty
  of <- function(total, parts, df) if (total > 0) total^2 / sum(parts^2 / df) else Inf
  df <- 1 / ((A / (A + B))^2 / of(A, wa, dfa[ok]) + (B / (A + B))^2 / of(B, wb, dfb[ok]))
  list(d = d, se = se, z = d / se, df = df, alike = sqrt(sum(w^2 * (own$a / b$n + own$b / a$n)[ok])))
}

simpson <- function(x) {
  n <- length(x)
  (x[2] - x[1]) / 3 * c0(1, rep(c0(4, 2), length.out = n - 2), 1)
}
c0 <- base::c

bound <- function(times) {
  # Lan and DeMets (1983), O'Brien and Fleming's shape: the boundary of the last look, by plain quadrature
  spent <- function(t) {
    if (t >= 1) alpha else 4 * pnorm(qnorm(alpha / 4, lower.tail = FALSE) / sqrt(t), lower.tail = FALSE)
  }
  grid <- NULL; mass <- NULL; last <- 0; used <- 0; bound <- Inf
  for (t in times) {
    new <- spent(t) - used
    if (new < 1e-25 || t - last < 1e-3) {
      bound <- Inf
      next
    }
    step <- sqrt(t - last); root <- sqrt(t)
    crossing <- function(z) {
      if (is.null(grid)) return(2 * pnorm(z, lower.tail = FALSE))
      sum(mass * (pnorm((z * root - grid) / step, lower.tail = FALSE) + pnorm((-z * root - grid) / step)))
    }
    # on the logarithm: what is spent early is far below any tolerance of its own
    bound <- uniroot(function(z) log(max(crossing(z), 1e-300)) - log(new), c0(0, 36), tol = 1e-13, maxiter = 10000)$root
    edge <- min(bound, 10) * root
    fresh <- seq(-edge, edge, length.out = 2001)
    if (is.null(grid)) {
      density <- dnorm(fresh / step) / step
    } else {
      density <- as.vector((dnorm(outer(fresh, grid, "-") / step) / step) %*% mass)
    }
    grid <- fresh; mass <- density * simpson(fresh)
    last <- t; used <- spent(t)
  }
  bound
}

always_valid <- function(se, total) {
  # Waudby-Smith et al. (2021), narrowest at the planned units
  x1 <- uniroot(function(x) x - log1p(x) + 2 * log(alpha), c0(1e-9, 1e6), tol = 1e-13, maxiter = 10000)$root
  x <- x1 * total / num("tuned_total")
  se * sqrt(2 * (x + 1) / x * log(sqrt(x + 1) / alpha))
}

total <- sum(as.numeric(c$n)) + sum(as.numeric(t$n))
decide <- function(crossed, d) {
  enough <- num("days") >= num("minimum_days")
  if (yes("is_harmed")) {
    "roll_back"
  } else if (num("blocks") > 0) {
    "blocked"
  } else if (crossed && (d > 0) != yes("higher_is_better")) {
    "roll_back"
  } else if (crossed && enough && yes("is_safe")) {
    "ship"
  } else if ((total >= num("planned_total") && enough) || yes("is_over")) {
    "stop_inconclusive"
  } else {
    "keep_running"
  }
}
if (said[["undefined"]] != "") { # then nothing can be crossed; the rest decides
  kind_found <- decide(FALSE, 0)
  agrees <- kind_found == said[["decision"]]
  cat("the primary metric is undefined:", said[["undefined"]], "\n")
  cat(if (agrees) "agrees" else paste("DOES NOT AGREE: decision", kind_found), "\n")
  quit(status = if (agrees) 0 else 1)
}
found <- if (kind == "proportion" && !covariate) shares() else means()
d <- found$d; se <- found$se; z <- found$z; df <- found$df
half <- Inf
crossed <- FALSE
if (said[["mode"]] == "always_valid") {
  half <- always_valid(max(se, found$alike), total) # a small arm without an event has no variance of its own yet
  crossed <- abs(d) > half
} else {
  looks <- read.csv("looks.csv")$information
  nominal <- 2 * pnorm(bound(looks[looks > 0]), lower.tail = FALSE)
  if (nominal > 0) {
    q <- if (is.infinite(df)) qnorm(nominal / 2, lower.tail = FALSE) else qt(nominal / 2, df, lower.tail = FALSE)
    crossed <- abs(z) >= q
    half <- q * se
  }
}
before <- num("crossed_before")
crossed <- crossed || (before != 0 && before == sign(d))
kind_found <- decide(crossed, d)
low <- d - half; high <- d + half
# shares differ by 100 points at most, unless they are adjusted
if (kind == "proportion" && !covariate && is.finite(half)) {
  low <- max(low, -1); high <- min(high, 1)
}
cat(sprintf("difference %.10g  standard error %.10g  statistic %.10g\n", d, se, z))
cat(sprintf("interval over all looks %.10g to %.10g  decision %s\n", low, high, kind_found))

close <- function(mine, name) {
  theirs <- num(name)
  is.na(theirs) || abs(mine - theirs) <= 1e-6 * max(abs(mine), abs(theirs), 1e-12)
}
checks <- c0(
  difference = close(d, "estimate"), `standard error` = close(se, "standard_error"),
  statistic = close(z, "statistic"), lower = close(low, "lower"), upper = close(high, "upper"),
  decision = kind_found == said[["decision"]]
)
wrong <- names(checks)[!checks]
cat(if (length(wrong)) paste("DOES NOT AGREE:", paste(wrong, collapse = ", ")) else "agrees", "\n")
quit(status = if (length(wrong)) 1 else 0)
"""
