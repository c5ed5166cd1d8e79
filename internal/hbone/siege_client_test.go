// SPDX-License-Identifier: Apache-2.0

package hbone

import "github.com/isthmus-mesh/isthmus/test/hostile"

// wavesAtClient says for each attack of a server what it may achieve.
var wavesAtClient = map[string]wave{
	"reset-flood":                  endsWith(controlSpent),
	"made-you-reset-by-increment":  slowly(resetsSpent),
	"made-you-reset-by-overflow":   slowly(resetsSpent),
	"made-you-reset-by-priority":   slowly(resetsSpent, badProtocol),
	"made-you-reset-by-bad-length": endsWith(badSize),
	"trailers-without-end":         slowly(resetsSpent),

	"continuation-flood":            endsWith(headersEnd),
	"continuation-flood-of-nothing": endsWith(headersEnd),
	"continuation-flood-of-much":    endsWith(headersEnd),
	"header-bomb":                   slowly(resetsSpent, headersEnd),
	"header-list-too-large":         endsWith(headersEnd),
	"header-field-too-large":        endsWith(headersEnd),
	"header-frame-too-large":        endsWith(headersEnd),
	"padding-longer-than-headers":   endsWith(badProtocol),
	"half-a-block":                  falls(silent),
	"request-in-a-block":            endsWith(badProtocol),

	"table-above-limit":        endsWith(badTable),
	"integer-without-end":      endsWith(badTable),
	"integer-unfinished":       endsWith(badTable),
	"integer-giant":            endsWith(badTable),
	"index-zero":               endsWith(badTable),
	"index-beyond-table":       endsWith(badTable),
	"string-longer-than-block": endsWith(badTable),
	"huffman-garbage":          endsWith(badTable),
	"huffman-padding":          endsWith(badTable),

	"ping-flood":               endsWith(controlSpent),
	"ping-answer-flood":        endsWith(controlSpent),
	"ping-forged-answer-flood": {ends: []fate{controlSpent}, streams: fewStreams},
	"settings-flood":           endsWith(controlSpent),
	"settings-answer-flood":    endsWith(controlSpent),
	"settings-flapping":        endsWith(controlSpent),
	"settings-stuffed":         {ends: []fate{controlSpent, badProtocol}, streams: fewStreams},
	"priority-flood":           endsWith(controlSpent),
	"priority-ring":            endsWith(controlSpent),
	"unknown-flood":            endsWith(controlSpent),
	"unknown-flood-of-much":    {ends: []fate{controlSpent, badSize}, streams: fewStreams},
	"goaway-flood":             endsWith(controlSpent),
	"push":                     endsWith(badProtocol),
	"window-flood":             endsWith(updatesSpent),
	"unread-pings":             endsWith(controlSpent),
	"ping-flood-stubborn":      endsWith(controlSpent),

	"empty-data":               endsWith(controlSpent),
	"padding-only":             endsWith(controlSpent),
	"tiny-data":                few(), // as at the server
	"tiny-data-after-reset":    {ends: []fate{controlSpent}, streams: fewStreams},
	"data-on-idle-stream":      endsWith(badProtocol),
	"data-on-stream-0":         endsWith(badProtocol),
	"padding-longer-than-data": endsWith(badProtocol),
	"oversized-data":           endsWith(badSize),
	"bad-length":               endsWith(badSize),
	"no-settings":              endsWith(badProtocol),

	"window-zero-increment":    endsWith(badProtocol),
	"window-overflow":          endsWith(badWindow),
	"window-of-idle-stream":    endsWith(badProtocol),
	"settings-window-overflow": endsWith(badWindow),
	"data-beyond-windows":      {ends: []fate{resetsSpent}, slow: true, settings: narrow, streams: fewStreams, holds: 1 << 20},
	"fill-windows":             {settings: narrow, streams: fewStreams, holds: fewStreams * 2 * 8 << 10},
	"fill-windows-unevenly":    {settings: narrow, streams: fewStreams, holds: fewStreams * 2 * 16 << 10},
	"tiny-windows":             endsWith(updatesSpent),
	"unread-data":              {streams: fewStreams, says: 4 << 20, holds: 256 << 10},

	"silent-after-handshake": falls(silent),
	"silent-in-settings":     falls(silent),
	"silent-after-settings":  falls(silent),
	"silent-in-head":         falls(silent),
	"silent-in-headers":      falls(silent),
	"silent-between-headers": falls(silent),
	"silent-in-data":         falls(silent),
	"drip-in-headers":        falls(silent),

	"interim-answers":                   endsWith(controlSpent),
	"answers-nobody-asked-for":          endsWith(badProtocol),
	"answers-on-even-streams":           endsWith(badProtocol),
	"answers-twice":                     slowly(resetsSpent),
	"answers-after-end":                 endsWith(resetsSpent, controlSpent),
	"answers-without-status":            slowly(resetsSpent),
	"no-answers":                        few(),
	"resets-instead-of-answers":         few(),
	"resets-after-answers":              few(),
	"data-before-answer":                {settings: narrow, streams: 100, holds: 2 * hostile.Filled},
	"data-before-answer-beyond-windows": {ends: []fate{controlSpent, badWindow}, streams: fewStreams, holds: 4 << 20},
	"goaway-at-once":                    few(),
	"goaway-before-settings":            few(),
	"goaway-with-much-to-say":           endsWith(badSize),
	"goaway-too-short":                  endsWith(badSize),
	"push-setting":                      endsWith(badProtocol),
	"no-streams-allowed":                few(),
	"ends-at-once":                      few(),
	"never-ends":                        few(),
}

// slowly is a wave that breaks after as many of the client's own streams as its budget allows.
func slowly(f ...fate) wave { return wave{ends: f, slow: true, streams: fewStreams} }

// few is a wave of which nothing comes: the client's own streams bound it.
func few() wave { return wave{streams: fewStreams} }
