// SPDX-License-Identifier: Apache-2.0

// Command probe is what the lab's own test runs in pods: `probe serve` answers HTTP on port 8080 with its host name,
// `probe get URL` prints an answer, `probe dial ADDRESS` says whether a TCP connection can be made.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		args = []string{"serve"}
	}
	switch {
	case args[0] == "serve":
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		return http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s\n", name, r.RemoteAddr)
		}))
	case args[0] == "get" && len(args) == 2:
		client := http.Client{Timeout: 5 * time.Second}
		response, err := client.Get(args[1])
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(os.Stdout, response.Body)
		return err
	case args[0] == "dial" && len(args) == 2:
		conn, err := net.DialTimeout("tcp", args[1], 2*time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	case args[0] == "ls" && len(args) == 2:
		entries, err := os.ReadDir(args[1])
		for _, entry := range entries {
			fmt.Println(entry.Name())
		}
		return err
	}
	return fmt.Errorf("usage: probe serve | get URL | dial ADDRESS | ls DIRECTORY")
}
