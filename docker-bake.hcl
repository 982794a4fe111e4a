# The image for both platforms:
#
#   docker buildx bake                                  from source, compiled across: only the packing is emulated
#   BINARY=bin/tidegate docker buildx bake prebuilt     of bin/tidegate-amd64 and bin/tidegate-arm64, compiled before
#   docker buildx bake --set '*.platform=linux/arm64' --load
variable "TAG" { default = "tidegate:0.1.0" }
variable "BINARY" { default = "target/release/tidegate" }
variable "REVISION" { default = "unknown" }
variable "CACHE" { default = "" }

group "default" { targets = ["tidegate"] }

target "tidegate" {
  target     = "tidegate"
  tags       = [TAG]
  platforms  = ["linux/amd64", "linux/arm64"]
  args       = { REVISION = REVISION }
  # Where CI keeps the layer of dependencies, such as CACHE=type=gha.
  cache-from = CACHE == "" ? [] : [CACHE]
  cache-to   = CACHE == "" ? [] : ["${CACHE},mode=max"]
}

target "prebuilt" {
  inherits = ["tidegate"]
  target   = "prebuilt"
  args     = { BINARY = BINARY }
}
