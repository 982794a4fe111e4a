// Grafana's own types of dashboards, for a test of ours: https://github.com/grafana/grafana-foundation-sdk
module dashboard

go 1.25

require github.com/grafana/grafana-foundation-sdk/go v0.0.11
