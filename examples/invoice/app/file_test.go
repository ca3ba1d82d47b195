package app

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // where the machine has no sqlite3 command
)

// TestLookIntoTheFile reads the database of a living server from outside, as
// docs/local-file.md says, and holds that page against the tables.
func TestLookIntoTheFile(t *testing.T) {
	t.Parallel()
	s := started(t, "stdio", t.TempDir())
	ids := s.begin(t, with(sample(t, "INV-100"), "po_number", "PO-9"))
	s.await(t, ids, "PENDING-APPROVAL")

	got := query(t, s.db(), `SELECT workflow_id, name, state FROM runs`)
	if want := "invoice-INV-100|process_invoice|running"; got != want {
		t.Errorf("runs: got %q, want %q", got, want)
	}
	got = query(t, s.db(), `SELECT name, state, text FROM asks`)
	if want := "approve|open|Pay invoice INV-100 of ACME Corp: 2 lines, 300 in all?"; got != want {
		t.Errorf("asks: got %q, want %q", got, want)
	}
	if got := query(t, s.db(), `SELECT count(*) FROM journal WHERE CAST(data AS TEXT) LIKE '%PO-9%'`); got == "0" {
		t.Error("the field po_number, which the program does not know, is not in the journal")
	}

	b, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "local-file.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(b), "\r\n", "\n")
	for _, table := range strings.Fields(query(t, s.db(), `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)) {
		if !strings.Contains(page, "**"+table+"**") {
			t.Errorf("docs/local-file.md does not tell about the table %s", table)
		}
	}
	for _, column := range strings.Fields(query(t, s.db(), `SELECT name FROM pragma_table_info('runs')`)) {
		if !strings.Contains(page, "`"+column+"`") {
			t.Errorf("docs/local-file.md does not tell about runs.%s", column)
		}
	}
	here := strings.NewReplacer("'invoice-17'", "'invoice-INV-100'", "'…'", fmt.Sprintf("'%s'", ids["run_id"]))
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(blocks) == 0 {
		t.Error("docs/local-file.md has no queries")
	}
	for _, block := range blocks {
		for _, text := range strings.SplitAfter(strings.TrimSpace(block[1]), ";") {
			if text != "" && query(t, s.db(), here.Replace(text)) == "" {
				t.Errorf("this query of docs/local-file.md gives nothing:\n%s", text)
			}
		}
	}
}

// query asks a file by the sqlite3 command: rows are lines, columns have bars
// between them. Only where the command is missing, and not in CI, it asks by
// the driver.
func query(t *testing.T, path, text string) string {
	t.Helper()
	bin, err := exec.LookPath("sqlite3")
	if err == nil {
		out, err := exec.Command(bin, "-readonly", "-batch", path, text).CombinedOutput()
		if err != nil {
			t.Fatalf("sqlite3: %v\n%s", err, out)
		}
		return strings.TrimSpace(strings.ReplaceAll(string(out), "\r\n", "\n"))
	}
	if os.Getenv("CI") != "" {
		t.Fatal("the sqlite3 command is missing: apt-get install sqlite3")
	}
	t.Log("there is no sqlite3 command: asking by the driver")
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	rows, err := db.Query(text)
	if err != nil {
		t.Fatal(err)
	}
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for rows.Next() {
		cells, to := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range cells {
			to[i] = &cells[i]
		}
		if err := rows.Scan(to...); err != nil {
			t.Fatal(err)
		}
		var line []string
		for _, c := range cells {
			line = append(line, c.String)
		}
		lines = append(lines, strings.Join(line, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
