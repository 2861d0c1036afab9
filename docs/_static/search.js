// A page that is opened as a file may not read other files: its search has no excerpts of pages.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
