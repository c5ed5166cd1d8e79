// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed" // for the template below
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"text/template"
)

//go:embed picture.svg.tmpl
var pictureText string

var pictureTemplate = template.Must(template.New("picture").Funcs(template.FuncMap{"xml": escape}).Parse(pictureText))

// Places and sizes in the picture, in its pixels.
const (
	pictureWidth = 960
	headHeight   = 92 // title, machine and legend
	figureHeight = 50 // two bars and the space around them
	footHeight   = 20
	barsAt       = 330
	barsWidth    = 400 // of the largest value that is drawn whole
	// longest is how many times the larger of ours and the goal a bar may be: one that is longer is cut, or the others would shrink to nothing.
	longest = 2.5
)

// picture is a record, laid out.
type picture struct {
	Width, Height, Bars int
	Machine             string
	Rows                []pictureRow
}

type pictureRow struct {
	Name    string
	Y       int // of its upper edge
	Figures []pictureFigure
}

type pictureFigure struct {
	Y              int // of its upper edge
	What, Goal     string
	GoalAt         string // x
	Ours, Control  bar
	Against, Times string
	Holds          bool
}

type bar struct {
	Width string
	Text  string // the value
	TextX string
	Cut   bool // is longer than drawn
}

// draw writes the record as an SVG picture: each figure beside its control, with the goal as a line. The same record gives the same bytes.
func draw(w io.Writer, r record) error {
	p := picture{
		Width: pictureWidth, Bars: barsAt,
		Machine: fmt.Sprintf("%s, %s, %s, commit %s", r.CPU, r.Go, r.Date, r.Commit),
	}
	y := headHeight
	for _, row := range r.Rows {
		laid := pictureRow{Name: row.Row, Y: y}
		for _, f := range row.Figures {
			laid.Figures = append(laid.Figures, layOut(f, y))
			y += figureHeight
		}
		p.Rows = append(p.Rows, laid)
	}
	p.Height = y + footHeight
	if err := pictureTemplate.Execute(w, p); err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	return nil
}

// layOut scales the bars of one figure so that the longest fills the width.
func layOut(f figure, y int) pictureFigure {
	laid := pictureFigure{Y: y, What: f.What, Goal: f.bound(), Against: f.Against, Holds: f.holds()}
	scale := max(f.Ours, f.Goal)
	if f.Control != nil {
		scale = max(scale, min(*f.Control, longest*scale))
	}
	laid.GoalAt = fmt.Sprintf("%.1f", barsAt+barsWidth*f.Goal/scale)
	laid.Ours = newBar(f.Ours, scale, f.Unit)
	if f.Control != nil {
		laid.Control = newBar(*f.Control, scale, f.Unit)
		if times := f.Ours / *f.Control; times > 0.1 && times < 10 { // beyond that the bars say it
			laid.Times = fmt.Sprintf("%.2f ×", times)
		}
	}
	return laid
}

func newBar(v, scale float64, unit string) bar {
	width := max(barsWidth*min(v/scale, 1), 1.5) // nothing is still seen
	return bar{
		Width: fmt.Sprintf("%.1f", width), Text: withUnit(v, unit), TextX: fmt.Sprintf("%.1f", barsAt+width+6), Cut: v > scale,
	}
}

func escape(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}
