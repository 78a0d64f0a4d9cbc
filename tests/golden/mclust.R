# Writes mclust.json: for each of mclust's fourteen models one M-step from soft labels, and the EM
# fit that starts there. Usage: Rscript mclust.R <folder with iris.csv and faithful.csv>
suppressMessages(library(mclust))
root <- commandArgs(trailingOnly = TRUE)[1]
measured <- read.csv(file.path(root, "iris.csv"))
iris_x <- unname(as.matrix(measured[, 2:5]))
faithful <- unname(as.matrix(read.csv(file.path(root, "faithful.csv"))[, c("eruptions", "waiting")]))
numbers <- function(v) paste0("[", paste(trimws(formatC(as.vector(v), digits = 15, format = "g")), collapse = ", "), "]")
soft <- function(label, K) {
  z <- matrix(0.1 / (K - 1), length(label), K)
  z[cbind(seq_along(label), label)] <- 0.9
  z
}
species <- as.integer(factor(measured$Species))
cases <- list(
  iris3 = list(x = iris_x, label = species, K = 3),
  iris2 = list(x = iris_x, label = ifelse(species == 1, 1L, 2L), K = 2),
  faithful2 = list(x = faithful, label = ifelse(faithful[, 1] < 3, 1L, 2L), K = 2)
)
models <- c("EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV")
inner <- emControl(tol = c(1e-5, 1e-13), itmax = c(.Machine$integer.max, 100000))
tight <- emControl(tol = c(1e-13, 1e-13), itmax = c(20000, 20000))
lines <- c()
for (name in names(cases)) for (model in models) {
  case <- cases[[name]]
  z <- soft(case$label, case$K)
  step <- mstep(data = case$x, modelName = model, z = z, control = inner)
  likelihood <- do.call("estep", c(list(data = case$x), step))$loglik
  fit <- me(data = case$x, modelName = model, z = z, control = tight)
  lines <- c(lines, sprintf(
    '"%s/%s": {"mstep_sigma": %s, "mstep_log_likelihood": %.10f, "log_likelihood": %.10f, "n_parameters": %d, "bic": %.10f, "weights": %s, "means": %s, "sigma": %s}',
    name, model, numbers(step$parameters$variance$sigma), likelihood, fit$loglik,
    nMclustParams(model, ncol(case$x), case$K), bic(model, fit$loglik, nrow(case$x), ncol(case$x), case$K),
    numbers(fit$parameters$pro), numbers(fit$parameters$mean), numbers(fit$parameters$variance$sigma)
  ))
}
source_line <- sprintf('"source": "R, mclust %s; written by mclust.R beside this file. sigma: column-major (d, d, K)."', packageVersion("mclust"))
writeLines(paste0("{\n", paste(c(source_line, lines), collapse = ",\n"), "\n}"), "mclust.json")
