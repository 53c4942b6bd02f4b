# One command each. The lines that they run stand in README.md and CONTRIBUTING.md, which work without make too.
COMMANDS = demo test lint docs bench

.PHONY: $(COMMANDS)
$(COMMANDS):
	sh .ci/command $@
