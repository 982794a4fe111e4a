// Checks a dashboard, on standard input, against Grafana's own types: a field that they do not have is a fault, be it
// in a query, in a panel's options or in what is overridden for one column. Grafana itself passes over such fields.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	// A kind that is not here would not be checked, and is a fault.
	runtime := cog.NewRuntime()
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(statetimeline.VariantConfig())
	runtime.RegisterPanelcfgVariant(table.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())

	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = check(text)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func check(text []byte) error {
	text, err := withoutAnnotationFields(text)
	if err != nil {
		return err
	}
	var board dashboard.Dashboard
	if err := board.UnmarshalJSONStrict(text); err != nil {
		return err
	}
	if err := board.Validate(); err != nil {
		return err
	}
	for _, annotation := range board.Annotations.List {
		if annotation.Target != nil && annotation.Target.DataqueryType() == "unknown" {
			return fmt.Errorf("annotation %s: a query of no known kind", annotation.Name)
		}
	}
	var raw struct{ Panels []json.RawMessage }
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	for at, panel := range board.Panels {
		if err := checkPanel(panel, raw.Panels[at]); err != nil {
			return err
		}
	}
	return nil
}

// checkPanel looks where the types are not strict: at kinds they do not know, at what a panel's fields are set to, and
// at what is overridden.
func checkPanel(of dashboard.PanelOrRowPanel, text []byte) error {
	var raw struct {
		Panels      []json.RawMessage
		FieldConfig json.RawMessage
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	if of.RowPanel != nil {
		for at := range of.RowPanel.Panels {
			inside := dashboard.PanelOrRowPanel{Panel: &of.RowPanel.Panels[at]}
			if err := checkPanel(inside, raw.Panels[at]); err != nil {
				return err
			}
		}
		return nil
	}
	panel := of.Panel
	fail := func(err error) error { return fmt.Errorf("panel %s: %w", *panel.Title, err) }
	if _, known := cog.ConfigForPanelcfgVariant(panel.Type); !known {
		return fail(fmt.Errorf("%s is no known kind", panel.Type))
	}
	for _, target := range panel.Targets {
		if target.DataqueryType() == "unknown" {
			return fail(errors.New("a query of no known kind"))
		}
	}
	var fields dashboard.FieldConfigSource
	if err := fields.UnmarshalJSONStrict(raw.FieldConfig); err != nil {
		return fail(err)
	}
	for _, override := range fields.Overrides {
		if err := checkOverride(panel.Type, fields.Defaults.Custom, override.Properties); err != nil {
			return fail(fmt.Errorf("overrides: %w", err))
		}
	}
	return nil
}

// checkOverride has properties judged as if they were the defaults: they have the same names and values.
func checkOverride(kind string, custom any, properties []dashboard.DynamicConfigValue) error {
	defaults, own := map[string]any{}, map[string]any{}
	// What is required there is in the panel's own defaults.
	if of, found := custom.(map[string]any); found {
		for name, value := range of {
			own[name] = value
		}
	}
	for _, property := range properties {
		if name, found := strings.CutPrefix(property.Id, "custom."); found {
			own[name] = property.Value
		} else if property.Id != "links" {
			// The types take the links of a value for those of a dashboard.
			defaults[property.Id] = property.Value
		}
	}
	text, err := json.Marshal(defaults)
	if err != nil {
		return err
	}
	if err := new(dashboard.FieldConfig).UnmarshalJSONStrict(text); err != nil {
		return err
	}
	variant, _ := cog.ConfigForPanelcfgVariant(kind)
	if variant.StrictFieldConfigUnmarshaler == nil {
		if len(own) > 0 {
			return fmt.Errorf("%s has nothing of its own", kind)
		}
		return nil
	}
	if text, err = json.Marshal(own); err != nil {
		return err
	}
	_, err = variant.StrictFieldConfigUnmarshaler(text)
	return err
}

// withoutAnnotationFields takes out what Prometheus's annotations have beside those of every data source: the types
// have only these.
func withoutAnnotationFields(text []byte) ([]byte, error) {
	board := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &board); err != nil {
		return nil, err
	}
	var annotations struct {
		List []map[string]json.RawMessage `json:"list"`
	}
	if err := json.Unmarshal(board["annotations"], &annotations); err != nil {
		return nil, err
	}
	for _, annotation := range annotations.List {
		for _, field := range []string{"titleFormat", "textFormat", "tagKeys", "useValueForTime"} {
			delete(annotation, field)
		}
	}
	var err error
	if board["annotations"], err = json.Marshal(annotations); err != nil {
		return nil, err
	}
	return json.Marshal(board)
}
